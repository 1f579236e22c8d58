"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table('datasets',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('description', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('builtin', sa.Boolean(), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=True),
    sa.Column('size_bytes', sa.BigInteger(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_datasets')),
    sa.UniqueConstraint('name', name=op.f('uq_datasets_name'))
    )
    op.create_index('ix_datasets_sha256', 'datasets', ['sha256'], unique=False)
    op.create_table('idempotency_keys',
    sa.Column('route', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('fingerprint', sa.Text(), nullable=False),
    sa.Column('token', sa.Text(), nullable=False),
    sa.Column('in_flight_until', sa.Double(), nullable=False),
    sa.Column('resource_id', sa.Text(), nullable=True),
    sa.Column('answer_status', sa.BigInteger(), nullable=True),
    sa.Column('answer_body', sa.Text(), nullable=True),
    sa.Column('answer_location', sa.Text(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('route', 'key', name=op.f('pk_idempotency_keys'))
    )
    op.create_table('jobs',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('framework', sa.Text(), nullable=False),
    sa.Column('spec', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('dataset_id', sa.Text(), nullable=False),
    sa.Column('dataset_name', sa.Text(), nullable=False),
    sa.Column('dataset_sha256', sa.Text(), nullable=True),
    sa.Column('metadata', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('resumed_from', sa.Text(), nullable=True),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('phase', sa.Text(), nullable=True),
    sa.Column('cancel_requested', sa.Boolean(), nullable=False),
    sa.Column('stop_reason', sa.Text(), nullable=True),
    sa.Column('error_code', sa.Text(), nullable=True),
    sa.Column('error_message', sa.Text(), nullable=True),
    sa.Column('attempt', sa.BigInteger(), nullable=False),
    sa.Column('max_attempts', sa.BigInteger(), nullable=False),
    sa.Column('fence', sa.BigInteger(), nullable=False),
    sa.Column('owner', sa.Text(), nullable=True),
    sa.Column('device', sa.Text(), nullable=True),
    sa.Column('lease_until', sa.Double(), nullable=True),
    sa.Column('dispatched_at', sa.Double(), nullable=True),
    sa.Column('not_before', sa.Double(), nullable=True),
    sa.Column('epoch', sa.BigInteger(), nullable=True),
    sa.Column('epochs', sa.BigInteger(), nullable=True),
    sa.Column('step', sa.BigInteger(), nullable=True),
    sa.Column('total_steps', sa.BigInteger(), nullable=True),
    sa.Column('first_progress_at', sa.Double(), nullable=True),
    sa.Column('first_progress_step', sa.BigInteger(), nullable=True),
    sa.Column('last_progress_at', sa.Double(), nullable=True),
    sa.Column('metrics', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('timing', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('model_name', sa.Text(), nullable=True),
    sa.Column('model_version', sa.BigInteger(), nullable=True),
    sa.Column('artifact_sha256', sa.Text(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('started_at', sa.Double(), nullable=True),
    sa.Column('finished_at', sa.Double(), nullable=True),
    sa.Column('event_seq', sa.BigInteger(), nullable=False),
    sa.Column('log_bytes', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_jobs'))
    )
    op.create_index('ix_jobs_dataset_id', 'jobs', ['dataset_id'], unique=False)
    op.create_index('ix_jobs_lease_until', 'jobs', ['lease_until'], unique=False)
    op.create_index('ix_jobs_status', 'jobs', ['status', 'framework'], unique=False)
    op.create_table('models',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('last_version', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_models')),
    sa.UniqueConstraint('id', name=op.f('uq_models_id'))
    )
    op.create_table('workers',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('pid', sa.BigInteger(), nullable=False),
    sa.Column('framework', sa.Text(), nullable=False),
    sa.Column('device', sa.Text(), nullable=False),
    sa.Column('slots', sa.BigInteger(), nullable=False),
    sa.Column('jobs', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('started_at', sa.Double(), nullable=False),
    sa.Column('last_seen_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workers'))
    )
    op.create_table('attempts',
    sa.Column('job_id', sa.Text(), nullable=False),
    sa.Column('fence', sa.BigInteger(), nullable=False),
    sa.Column('attempt', sa.BigInteger(), nullable=False),
    sa.Column('worker', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('device', sa.Text(), nullable=True),
    sa.Column('started_at', sa.Double(), nullable=False),
    sa.Column('ended_at', sa.Double(), nullable=True),
    sa.Column('outcome', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_attempts_jobs')),
    sa.PrimaryKeyConstraint('job_id', 'fence', name=op.f('pk_attempts'))
    )
    op.create_table('checkpoints',
    sa.Column('job_id', sa.Text(), nullable=False),
    sa.Column('fence', sa.BigInteger(), nullable=False),
    sa.Column('step', sa.BigInteger(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('folder', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_checkpoints_jobs')),
    sa.PrimaryKeyConstraint('job_id', 'fence', 'step', name=op.f('pk_checkpoints'))
    )
    op.create_table('events',
    sa.Column('job_id', sa.Text(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('data', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_events_jobs')),
    sa.PrimaryKeyConstraint('job_id', 'seq', name=op.f('pk_events'))
    )
    op.create_index('ix_events_type', 'events', ['job_id', 'type', 'seq'], unique=False)
    op.create_table('metrics',
    sa.Column('job_id', sa.Text(), nullable=False),
    sa.Column('step', sa.BigInteger(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('data', sa.JSON(none_as_null=True), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_metrics_jobs')),
    sa.PrimaryKeyConstraint('job_id', 'step', 'kind', name=op.f('pk_metrics'))
    )
    op.create_table('model_versions',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('job_id', sa.Text(), nullable=False),
    sa.Column('framework', sa.Text(), nullable=False),
    sa.Column('spec', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('signature', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('classes', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('metrics', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('dataset_id', sa.Text(), nullable=False),
    sa.Column('dataset_name', sa.Text(), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('parameters', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['name'], ['models.name'], name=op.f('fk_model_versions_models')),
    sa.PrimaryKeyConstraint('name', 'version', name=op.f('pk_model_versions')),
    sa.UniqueConstraint('job_id', name=op.f('uq_model_versions_job_id'))
    )
    op.create_index('ix_model_versions_sha256', 'model_versions', ['sha256'], unique=False)
    op.create_table('model_aliases',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('alias', sa.Text(), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['name', 'version'], ['model_versions.name', 'model_versions.version'], name=op.f('fk_model_aliases_model_versions'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('name', 'alias', name=op.f('pk_model_aliases'))
    )
