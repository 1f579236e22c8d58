"""Whether a job can be carried out as it is asked for; and the same job with nothing left open."""

from models import catalog, preparation, training
from models.architecture import Spec
from models.checkpoints.adaptation import changes
from models.checkpoints.choice import chosen
from models.errors import InvalidInput, NotFound
from models.fit import total_steps
from models.job import FromJob, FromModel, FromPretrained, Init, JobSpec
from models.signature import Signature, TextInput, TokenInput
from models.training import SGD, TrainingSpec
from workers import datasets, job_queries, jobs, registry
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.job_records import Job

MOST_STEPS = 10_000_000
"""A trainer plans every step in advance and keeps the plan in memory."""


def settled(db: Database, spec: JobSpec) -> tuple[JobSpec, DatasetRecord]:
    """The job with its name, every default of its training and the exact version it starts from; and its dataset.

    Raises InvalidInput, naming the field, where the dataset, the network, the training and the start do not fit.
    """
    if spec.name is not None:
        registry.check_name(spec.name)
    dataset = known_dataset(db, spec.dataset)
    signature = preparation.expected_signature(dataset.description, spec)
    catalog.check(spec.model, signature)
    resolved = training.resolve(spec.model, spec.training, signature, dataset.description.splits.train)
    _check_length(resolved, dataset.description.splits.train)
    changes = {
        "name": spec.name or jobs.default_name(dataset.name, spec.model.architecture),
        "training": resolved,
        "init": _init(db, spec, signature, resolved, dataset),
    }
    return spec.model_copy(update=changes), dataset


def _check_length(resolved: TrainingSpec, rows: int) -> None:
    total = total_steps(resolved, rows)
    if total <= MOST_STEPS:
        return
    field = "max_steps" if resolved.epochs is None else "epochs"
    raise InvalidInput(
        f"This job would take {min(total, 10**18)} steps; at most {MOST_STEPS} are taken. Ask for fewer {field}, or"
        " for a larger batch_size.",
        pointer=f"/training/{field}",
        code="too_many_steps",
    )


def known_dataset(db: Database, name_or_id: str) -> DatasetRecord:
    """The dataset that a body names. Raises InvalidInput."""
    try:
        return datasets.get(db, name_or_id)
    except NotFound as error:
        raise InvalidInput(error.detail, pointer="/dataset", code="unknown_dataset") from None


def _init(
    db: Database, spec: JobSpec, signature: Signature, resolved: TrainingSpec, dataset: DatasetRecord
) -> Init:
    """The start, settled: a published checkpoint by its name, a model by its version."""
    match spec.init.source:
        case FromModel(model=reference):
            classes = dataset.description.classes
            return Init(source=FromModel(model=_start_model(db, reference, spec.model, signature, classes)))
        case FromJob(job=job_id):
            _check_start_job(_start_job(db, job_id), db, spec, signature, resolved)
            _check_steps_left(db, job_id, resolved, dataset.description.splits.train)
    if (published := chosen(spec.model, spec.init)) is not None:
        return Init(source=FromPretrained(pretrained=published.name))
    return spec.init


def _start_model(
    db: Database, reference: str, model: Spec, signature: Signature, classes: tuple[str, ...] | None
) -> str:
    """The version that the reference means today: a moved alias does not change a job that waits."""
    pointer = "/init/from/model"
    try:
        version = registry.resolve(db, reference)
    except NotFound as error:
        raise InvalidInput(error.detail, pointer=pointer, code="unknown_model") from None
    there = catalog.declarations(catalog.stored(version.spec), version.signature)
    shapes = {name: tensor.shape for name, tensor in there.items()}
    here = _in_tokens_of(signature, version.signature)
    try:
        changes(shapes, model, here, same_classes=classes == version.classes)
    except InvalidInput as error:
        raise InvalidInput(error.detail, pointer=pointer, code="shape_mismatch") from None
    return f"{version.name}@{version.version}"


def _in_tokens_of(signature: Signature, trained: Signature) -> Signature:
    """The signature of a job on texts that starts from weights: it takes the tokens that these were trained on."""
    if isinstance(signature.input, TextInput) and isinstance(trained.input, TokenInput):
        return signature.model_copy(update={"input": trained.input})
    return signature


def _start_job(db: Database, job_id: str) -> Job:
    pointer = "/init/from/job"
    try:
        job = job_queries.get(db, job_id, "training")
    except NotFound as error:
        raise InvalidInput(error.detail, pointer=pointer, code="unknown_job") from None
    if job_queries.latest_checkpoint(db, job_id) is None:
        raise InvalidInput(
            f"Job {job_id} has no checkpoint to continue from. GET /jobs/{job_id}/checkpoints lists them.",
            pointer=pointer,
            code="no_checkpoint",
        )
    return job


def _check_start_job(
    job: Job, db: Database, spec: JobSpec, signature: Signature, resolved: TrainingSpec
) -> None:
    before = JobSpec.model_validate(job.spec, strict=False)
    try:
        old_signature = preparation.expected_signature(datasets.get(db, job.dataset_id).description, before)
    except NotFound:
        # What it was trained on is deleted; the trainer still compares the checkpoint's tensors.
        old_signature = signature
    _check_shapes(before.model, old_signature, spec.model, signature, "/init/from/job")
    if _slots(before.training) != _slots(resolved):
        raise InvalidInput(
            f"Job {job.id} was trained with {_slots(before.training)}; continue it with the same optimizer, or start"
            ' from its model with {"model": ...}.',
            pointer="/training/optimizer",
            code="optimizer_mismatch",
        )


def _check_steps_left(db: Database, job_id: str, resolved: TrainingSpec, rows: int) -> None:
    checkpoint = job_queries.latest_checkpoint(db, job_id)
    total = total_steps(resolved, rows)
    if checkpoint is not None and checkpoint.step >= total:
        field = "max_steps" if resolved.epochs is None else "epochs"
        raise InvalidInput(
            f"Job {job_id} has done {checkpoint.step} steps already, and this job ends after {total}. The steps count"
            f" from its start: ask for more {field}.",
            pointer=f"/training/{field}",
            code="nothing_left_to_train",
        )


def _slots(spec: TrainingSpec) -> str:
    """The optimizer by what it remembers between steps."""
    optimizer = spec.optimizer
    if isinstance(optimizer, SGD):
        return "sgd with momentum" if optimizer.momentum else "sgd without momentum"
    return optimizer.name if optimizer else "its default optimizer"


def _check_shapes(old: Spec, old_signature: Signature, new: Spec, signature: Signature, pointer: str) -> None:
    """Raise InvalidInput unless the weights of the old network fit into the new one. How many tokens a network for
    texts has is known to its checkpoint only; the trainer compares that."""
    if isinstance(signature.input, TextInput) and isinstance(old_signature.input, TextInput):
        of_one_token = {"input": TokenInput(vocabulary=1, length=1, padding=0)}
        old_signature, signature = (one.model_copy(update=of_one_token) for one in (old_signature, signature))
    there = {name: tensor.shape for name, tensor in catalog.declarations(old, old_signature).items()}
    here = {name: tensor.shape for name, tensor in catalog.declarations(new, signature).items()}
    if there == here:
        return
    name = next(name for name in [*here, *there] if there.get(name) != here.get(name))
    raise InvalidInput(
        f"Its weights do not fit this job: {name!r} is {_shape(there.get(name))} there and {_shape(here.get(name))}"
        " here. Use the same model options, and a dataset of the same shape and classes.",
        pointer=pointer,
        code="shape_mismatch",
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))
