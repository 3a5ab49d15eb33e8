"""Small working stand-ins that print their state. Imported by tests only, never by the product."""
