import pytest
import yaml
from studio_cli.app import make_app
from studio_cli.litellm_entry import litellm_entry
from typer.testing import CliRunner


@pytest.mark.parametrize("url", ["http://gateway:4000", "http://gateway:4000/", "http://gateway:4000/v1"])
def test_entry_leads_to_the_api_and_holds_no_key(url: str):
    document = yaml.safe_load(litellm_entry(url, prefix="lab", key_variable="LAB_KEY"))
    (entry,) = document["model_list"]
    assert entry["model_name"] == "lab/*"
    assert entry["litellm_params"] == {
        "model": "hosted_vllm/*",
        "api_base": "http://gateway:4000/v1",
        "api_key": "os.environ/LAB_KEY",
    }


@pytest.mark.parametrize("noun", ["gateway", "gateways"])
def test_it_is_written_without_a_coordinator(noun: str):
    result = CliRunner().invoke(make_app(), [noun, "export", "--litellm", "--gateway-url", "https://llm.example.org"])
    assert result.exit_code == 0
    assert yaml.safe_load(result.output)["model_list"][0]["model_name"] == "fleet/*"
