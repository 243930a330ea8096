from typing import Any

# cffi's objects have no static types; shimmy/llama/ turns what comes from them into typed values.
ffi: Any
lib: Any
