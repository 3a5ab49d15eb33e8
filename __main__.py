"""Entry of the Pulumi program; everything else is in infra/."""

from infra.program import deploy

deploy()
