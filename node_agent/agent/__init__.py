"""The agent of one host: keeps its programs attached, its maps true, and makes and removes its endpoints."""
