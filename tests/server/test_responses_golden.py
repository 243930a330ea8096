"""Streams of /v1/responses, byte for byte."""

from __future__ import annotations

from shimmy.engine.types.event import Delta
from tests.server.fakes import finished
from tests.server.responses_support import CALLS, events, streamed

RESPONSE = (
    '"id":"resp_1","object":"response","created_at":1700000000,"status":"%s","background":false,'
    '"error":null,"incomplete_details":%s,"instructions":"Be brief.","max_output_tokens":9,'
    '"max_tool_calls":null,"model":"tiny","output":%s,"parallel_tool_calls":true,'
    '"previous_response_id":null,"prompt_cache_key":null,'
    '"reasoning":{"effort":null,"summary":null},"safety_identifier":null,'
    '"service_tier":"default","store":true,"temperature":0.5,'
    '"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],'
    '"top_logprobs":0,"top_p":null,"truncation":"disabled","usage":%s,"user":null,"metadata":{}'
)
USAGE = (
    '{"input_tokens":5,"input_tokens_details":{"cached_tokens":2,"cache_write_tokens":0},'
    '"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":8}'
)
MESSAGE = (
    '{"id":"msg_100","type":"message","status":"completed","role":"assistant","content":'
    '[{"type":"output_text","text":"A \\"b\\"\\n\\ré c","annotations":[],"logprobs":[]}]}'
)


def golden(*events: tuple[str, str]) -> bytes:
    return "".join(
        f'event: {name}\ndata: {{"type":"{name}","sequence_number":{i},{rest}}}\n\n'
        for i, (name, rest) in enumerate(events)
    ).encode()


PLACE = '"item_id":"msg_100","output_index":0,"content_index":0'
BEGUN = f'"response":{{{RESPONSE % ("in_progress", "null", "[]", "null")}}}'
GOLDEN = golden(
    ("response.created", BEGUN),
    ("response.in_progress", BEGUN),
    (
        "response.output_item.added",
        (
            '"output_index":0,"item":{"id":"msg_100","type":"message","status":"in_progress",'
            '"role":"assistant","content":[]}'
        ),
    ),
    (
        "response.content_part.added",
        f'{PLACE},"part":{{"type":"output_text","text":"","annotations":[],"logprobs":[]}}',
    ),
    ("response.output_text.delta", f'{PLACE},"delta":"A \\"b\\"\\n\\ré","logprobs":[]'),
    ("response.output_text.delta", f'{PLACE},"delta":" c","logprobs":[]'),
    ("response.output_text.done", f'{PLACE},"text":"A \\"b\\"\\n\\ré c","logprobs":[]'),
    (
        "response.content_part.done",
        (
            f'{PLACE},"part":{{"type":"output_text","text":"A \\"b\\"\\n\\ré c",'
            '"annotations":[],"logprobs":[]}'
        ),
    ),
    ("response.output_item.done", f'"output_index":0,"item":{MESSAGE}'),
    (
        "response.completed",
        f'"response":{{{RESPONSE % ("completed", "null", f"[{MESSAGE}]", USAGE)}}}',
    ),
)

RS = '"item_id":"rs_100","output_index":0,"content_index":0'
FC = '"item_id":"fc_101","output_index":1'
GOLDEN_ITEMS = (
    (
        "response.output_item.added",
        (
            '"output_index":0,"item":{"id":"rs_100","type":"reasoning","summary":[],"content":[],'
            '"status":"in_progress"}'
        ),
    ),
    ("response.content_part.added", f'{RS},"part":{{"type":"reasoning_text","text":""}}'),
    ("response.reasoning_text.delta", f'{RS},"delta":"hm"'),
    ("response.reasoning_text.done", f'{RS},"text":"hm"'),
    ("response.content_part.done", f'{RS},"part":{{"type":"reasoning_text","text":"hm"}}'),
    (
        "response.output_item.done",
        (
            '"output_index":0,"item":{"id":"rs_100","type":"reasoning","summary":[],"content":'
            '[{"type":"reasoning_text","text":"hm"}],"status":"completed"}'
        ),
    ),
    (
        "response.output_item.added",
        (
            '"output_index":1,"item":{"id":"fc_101","type":"function_call","status":"in_progress",'
            '"call_id":"call_1_0","name":"f","arguments":""}'
        ),
    ),
    ("response.function_call_arguments.delta", f'{FC},"delta":"{{\\"a\\":"'),
    ("response.function_call_arguments.delta", f'{FC},"delta":"1}}"'),
    ("response.function_call_arguments.done", f'{FC},"arguments":"{{\\"a\\":1}}"'),
    (
        "response.output_item.done",
        (
            '"output_index":1,"item":{"id":"fc_101","type":"function_call","status":"completed",'
            '"call_id":"call_1_0","name":"f","arguments":"{\\"a\\":1}"}'
        ),
    ),
)


def test_the_stream_is_byte_for_byte_this():
    deltas = [Delta(text='A "b"\n\ré'), Delta(text="", n_tokens=2), Delta(text=" c")]
    assert streamed(deltas, finished(cached=2)) == GOLDEN


def test_reasoning_and_calls_are_byte_for_byte_this():
    stream = streamed(CALLS, finished("tool_calls"))
    expected = golden(("", ""), ("", ""), *GOLDEN_ITEMS)
    assert stream[stream.index(b"event: response.output_item.added") :].startswith(
        expected[expected.index(b"event: response.output_item.added") :]
    )
    assert events(stream)[-1]["type"] == "response.completed"
