# ggml compiles for the GPUs of this machine only with GGML_NATIVE, which cpu.cmake had to take away; without a GPU to ask,
# its own list of architectures (long to compile) is right.
if(GGML_CUDA AND SHIMMY_CPU_NATIVE AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  execute_process(COMMAND nvidia-smi -L OUTPUT_VARIABLE gpus ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed AND gpus MATCHES "GPU 0")
    set(CMAKE_CUDA_ARCHITECTURES native)
  endif()
endif()
# VMM, the better pool, links the driver's library. Toolkits bring a stub of it to link against; where even that is missing:
if(GGML_CUDA AND NOT DEFINED GGML_CUDA_NO_VMM AND NOT TARGET CUDA::cuda_driver)
  message(STATUS "CUDA: no libcuda to link against; building with GGML_CUDA_NO_VMM")
  set(GGML_CUDA_NO_VMM ON)
endif()
