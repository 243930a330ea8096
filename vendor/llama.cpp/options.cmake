# llama.cpp's options. Plain variables and cache defaults: what the user gives with -C cmake.define.X=Y comes first.

# A backend is a module that is loaded at run time: one whose driver is missing cannot stop the import or the CPU.
set(BUILD_SHARED_LIBS ON)
set(GGML_BACKEND_DL ON)
option(GGML_RPC "ggml: use RPC" ON)

set(LLAMA_BUILD_COMMON OFF) # common.cmake builds the part that is needed
set(LLAMA_BUILD_MTMD ON)
set(LLAMA_SUBPROCESS OFF) # no ffmpeg is run for videos
set(LLAMA_BUILD_UI OFF) # may download
set(LLAMA_OPENSSL OFF)
foreach(part APP SERVER TOOLS TESTS EXAMPLES)
  set(LLAMA_BUILD_${part} OFF)
endforeach()

# ggml uses ccache if it is there, and warns if it is not
find_program(SHIMMY_CCACHE NAMES ccache sccache)
if(NOT SHIMMY_CCACHE)
  set(GGML_CCACHE OFF)
endif()

# Upstream's warnings are upstream's business.
set(LLAMA_ALL_WARNINGS OFF)
add_compile_options(-w)
# ggml_abort() may throw through C frames (native/: the abort guard).
add_compile_options($<$<COMPILE_LANGUAGE:C>:-fexceptions>)

include(cpu.cmake)
include(cuda.cmake)
