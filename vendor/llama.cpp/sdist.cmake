# Unpacks the tree beside this file for the sdist that is being made: unpatched and checked, as in the package.
find_package(Python REQUIRED COMPONENTS Interpreter)
if(NOT EXISTS "${CMAKE_CURRENT_LIST_DIR}/tree/include/llama.h")
  include("${CMAKE_CURRENT_LIST_DIR}/find.cmake")
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -B "${CMAKE_CURRENT_LIST_DIR}/tree.py" unpack
      "${SHIMMY_LLAMA_PACKAGE}" "${CMAKE_CURRENT_LIST_DIR}/tree"
    RESULT_VARIABLE failed ERROR_VARIABLE reason)
  if(failed)
    message(FATAL_ERROR "${reason}")
  endif()
endif()
