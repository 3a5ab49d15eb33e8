"""The Pulumi program: settings -> plan -> components -> outputs. What exists, nothing about packets."""
