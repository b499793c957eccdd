"""The first tables: the study, its participants, their responses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "study",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
    )
    op.create_table(
        "participants",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("external", sa.String(128), nullable=False),
        sa.Column("condition", sa.String(256), nullable=False),
        sa.Column("list", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("mistakes", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Double, nullable=name.startswith(("cons", "inst", "fin"))) for name in TIMES),
        sa.UniqueConstraint("source", "external"),
    )
    op.create_table(
        "responses",
        sa.Column("participant", sa.String(32), sa.ForeignKey("participants.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("trial", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("picked", sa.SmallInteger, nullable=False),
        sa.Column("correct", sa.Boolean, nullable=False),
        sa.Column("confidence", sa.SmallInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("answered_at", sa.Double, nullable=False),
    )


TIMES = ("started_at", "consented_at", "instructed_at", "shown_at", "seen_at", "finished_at")


def downgrade() -> None:
    """Remove the tables."""
    for name in ("responses", "participants", "study"):
        op.drop_table(name)
