# Built from source, the CPU backend is tuned to this machine; GGML_CPU_ALL_VARIANTS=ON builds all variants instead,
# and GGML_NATIVE=OFF a portable one. ggml refuses GGML_NATIVE with GGML_BACKEND_DL on x86, because a module must know which
# features to look for before it is used. So they are asked of the compiler: -march=native (below) then makes the same code as
# GGML_NATIVE, and the features are named for the check when the module is loaded.
option(GGML_CPU_ALL_VARIANTS "ggml: build all variants of the CPU backend" OFF)
option(GGML_NATIVE "ggml: optimize the build for the current system" ON)

set(SHIMMY_CPU_NATIVE OFF)
if(GGML_CPU_ALL_VARIANTS OR CMAKE_CROSSCOMPILING)
  set(GGML_NATIVE OFF)
elseif(GGML_NATIVE AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|i686|AMD64|amd64)$")
  set(GGML_NATIVE OFF)
  execute_process(COMMAND "${CMAKE_C_COMPILER}" -march=native -dM -E -x c /dev/null
    OUTPUT_VARIABLE macros RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    message(STATUS "CPU: the compiler does not know -march=native; building for any x86-64 CPU with AVX2")
  else()
    set(SHIMMY_CPU_NATIVE ON)
    foreach(feature
        SSE42:SSE4_2 AVX:AVX AVX2:AVX2 BMI2:BMI2 FMA:FMA F16C:F16C AVX_VNNI:AVXVNNI AVX512_VBMI:AVX512VBMI
        AVX512_VNNI:AVX512VNNI AVX512_BF16:AVX512BF16 AMX_TILE:AMX_TILE AMX_INT8:AMX_INT8)
      string(REGEX MATCH "(.*):(.*)" _ ${feature})
      string(FIND "${macros}" "#define __${CMAKE_MATCH_2}__ 1" found)
      if(NOT DEFINED GGML_${CMAKE_MATCH_1})
        if(found EQUAL -1)
          set(GGML_${CMAKE_MATCH_1} OFF)
        else()
          set(GGML_${CMAKE_MATCH_1} ON)
          list(APPEND cpu_features ${CMAKE_MATCH_1})
        endif()
      endif()
    endforeach()
    if(NOT DEFINED GGML_AVX512)
      # what ggml calls AVX512 is these five
      set(GGML_AVX512 ON)
      foreach(part F CD VL DQ BW)
        string(FIND "${macros}" "#define __AVX512${part}__ 1" found)
        if(found EQUAL -1)
          set(GGML_AVX512 OFF)
        endif()
      endforeach()
      if(GGML_AVX512)
        list(APPEND cpu_features AVX512)
      endif()
    endif()
    list(JOIN cpu_features " " cpu_features)
    message(STATUS "CPU: tuned to this machine: ${cpu_features}")
    # a build folder may come to another machine; the changed flag has everything compiled again there
    string(MD5 SHIMMY_CPU_ID "${macros}")
  endif()
endif()
