"""The smallest requests in OpenAI's form, one for each task. Every engine here takes these."""

from studio_agent.engines.base import HttpRequest
from studio_agent.engines.model_facts import Task


def openai(model_name: str, task: Task) -> HttpRequest:
    """One token, one vector, or one score."""
    match task:
        case Task.EMBED:
            return HttpRequest("POST", "/v1/embeddings", {"model": model_name, "input": "Hi"})
        case Task.RERANK:
            return HttpRequest("POST", "/v1/rerank", {"model": model_name, "query": "Hi", "documents": ["Hi"]})
        case Task.CLASSIFY:
            return HttpRequest("POST", "/classify", {"model": model_name, "input": "Hi"})
        case Task.GENERATE:
            token = {"model": model_name, "prompt": "Hi", "max_tokens": 1, "temperature": 0}
            return HttpRequest("POST", "/v1/completions", token)
