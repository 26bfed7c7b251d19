from litellm_support import LITELLM_NOISE, expect_one, run, usage, user, reference_hash
import capsule_sdk
pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

def test_a(chain, llm):
    with capsule_sdk.capsule_scope("a"):
        llm.ask()
    c = expect_one(chain, "a", "success")
    assert usage(c) == (10, 2, "0.000045")

def test_b(chain, llm):
    async def main():
        with capsule_sdk.capsule_scope("a"):
            await llm.aask()
    run(main)
    c = expect_one(chain, "a", "success")
    assert usage(c) == (10, 2, "0.000045")
    assert c["reasoning"]["prompt_hash"] == reference_hash(user("hi"))
