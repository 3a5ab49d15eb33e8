"""Pure text and documents made from the plan: nothing here knows Pulumi."""
