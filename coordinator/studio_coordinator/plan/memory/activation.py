"""The peak of memory beyond weights while the engine profiles itself: the larger of two moments, plus what stays.

Forward pass of T = max_num_batched_tokens tokens (H hidden, I intermediate, b bytes per element, tp ranks):

    T x (3 x I / tp + 3.5 x H) x b          gate, up and their product, with the residual stream around them
    + T x I / tp x 1                        when activations are quantized to 8 bits

Sampler's warm-up on S = max_num_seqs rows of V logits, on the last pipeline stage only:

    S x V x (b + 12) + C x V x 4 + T x H x b      logits, float32 copy, probabilities, noise; scratch of C compute units

What stays: the two work spaces of routed experts, T x k x (max(I', H) + max(2 I', H)) x b with k experts per token of I'
(= expert intermediate / ranks); with pipeline stages the hidden state and residual between them, 2 x T x H x b; for a
multimodal model the embeddings of its inputs, T x H x b; 0.05 GiB of cuBLAS work spaces.

The shapes follow from vLLM's source (`_dummy_sampler_run`, `TritonExperts.workspace_shapes`, `topk_topp_triton`); 3.5 and 0.05
are fitted (see `fits`). The logits are not divided by tensor parallelism:
every rank samples. The bytes per logit depend on the version: see `engine_rules`.
"""

from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.parallel import Stage
from studio_coordinator.plan.memory.parts import Part, Source
from studio_coordinator.plan.memory.settings import Question
from studio_coordinator.plan.memory.sizes import GIB
from studio_coordinator.plan.memory.weights import activation_bytes

_TOWER_ERROR = 0.1
_QUANTIZED_ACTIVATIONS = ("fp8", "compressed-tensors", "modelopt", "int8")


def activation_peak(facts: ModelFacts, question: Question, stage: Stage) -> Part:
    """Peak on one rank of `stage`, beyond weights and KV."""
    if question.on_cpu:
        return Part("activation", 0, Source.GIVEN, "on a CPU the KV cache has its own budget")
    width = activation_bytes(facts, question)
    tokens, hidden = question.max_num_batched_tokens, facts.hidden_size
    forward = _forward(facts, question, width)
    sampler = _sampler(facts, question, width) if stage.is_last else 0.0
    kept = question.fits.workspace * GIB + _expert_workspace(facts, question, width)
    if question.settings.pipeline_parallel > 1:
        kept += 2 * tokens * hidden * width
    if facts.multimodal and stage.is_first:
        kept += tokens * hidden * width
    peak = int(max(forward, sampler) + kept)
    moment = "sampler warm-up" if sampler >= forward else "forward pass"
    note = f"{moment} of {question.max_num_seqs} sequences, {tokens} tokens"
    if question.rules.note:
        note = f"{note}; {question.rules.note}"
    error = question.rules.activation_error
    if facts.multimodal:
        error, note = max(error, _TOWER_ERROR), f"{note}; the tower's own peak is not in it"
    return Part("activation", peak, Source.FITTED, note, int(peak * error))


def _forward(facts: ModelFacts, question: Question, width: float) -> float:
    tokens, ranks = question.max_num_batched_tokens, question.tensor_parallel
    inner = facts.intermediate_size / ranks
    quantized = question.settings.quantization or facts.quantization
    narrow = 1 if any(name in quantized for name in _QUANTIZED_ACTIVATIONS) else 0
    if facts.experts is not None:
        inner = 0.0  # the experts' work spaces are counted as kept; shared experts are small
    return tokens * ((3 * inner + question.fits.residual_copies * facts.hidden_size) * width + narrow * inner)


def _sampler(facts: ModelFacts, question: Question, width: float) -> float:
    rules = question.rules
    rows = min(question.max_num_seqs, question.max_num_batched_tokens)
    logits = rows * facts.vocabulary * (width + rules.sampler_bytes)
    scratch = min(question.gpu.compute_units, rows) * facts.vocabulary * rules.sampler_scratch_bytes
    return logits + scratch + question.max_num_batched_tokens * facts.hidden_size * width


def _expert_workspace(facts: ModelFacts, question: Question, width: float) -> float:
    experts = facts.experts
    if experts is None or facts.quantization == "mxfp4":
        return 0.0  # the mxfp4 kernels take theirs from the forward pass and give it back
    inner = experts.intermediate_size / (1 if question.settings.expert_parallel else question.tensor_parallel)
    hidden = facts.hidden_size
    return question.max_num_batched_tokens * experts.per_token * (max(inner, hidden) + max(2 * inner, hidden)) * width
