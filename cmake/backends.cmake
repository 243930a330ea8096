# What each backend that was asked for needs to compile, before llama.cpp's own CMake files fail in their words.
if(GGML_VULKAN)
  find_package(Vulkan QUIET COMPONENTS glslc)
  if(DEFINED ENV{VULKAN_SDK})
    list(APPEND CMAKE_PREFIX_PATH "$ENV{VULKAN_SDK}")
  endif()
  find_package(SPIRV-Headers CONFIG QUIET)
  set(absent "")
  if(NOT Vulkan_LIBRARY OR NOT Vulkan_INCLUDE_DIR)
    list(APPEND absent "the Vulkan headers and loader")
  endif()
  if(NOT Vulkan_GLSLC_EXECUTABLE)
    list(APPEND absent "glslc")
  endif()
  if(NOT SPIRV-Headers_FOUND)
    list(APPEND absent "the SPIR-V headers")
  endif()
  if(absent)
    list(JOIN absent ", " absent)
    shimmy_missing("GGML_VULKAN=ON needs ${absent}"
      APT glslc libvulkan-dev spirv-headers
      DNF glslc vulkan-headers vulkan-loader-devel spirv-headers-devel
      PACMAN shaderc vulkan-headers vulkan-icd-loader spirv-headers
      ZYPPER shaderc vulkan-devel spirv-headers)
  endif()
endif()

if(GGML_CUDA)
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND OR NOT CUDAToolkit_NVCC_EXECUTABLE)
    shimmy_missing("GGML_CUDA=ON needs the CUDA toolkit, and there is no nvcc"
      APT nvidia-cuda-toolkit
      OTHER "or from https://developer.nvidia.com/cuda-downloads, with nvcc on the PATH or named by CUDACXX=/path/to/nvcc.")
  endif()
  if(NOT TARGET CUDA::cublas)
    shimmy_missing("GGML_CUDA=ON needs cuBLAS, and the CUDA toolkit at ${CUDAToolkit_ROOT}${CUDAToolkit_TARGET_DIR} has none"
      OTHER "It is a part of NVIDIA's installer, or the package libcublas-dev of NVIDIA's repository.")
  endif()
  if(CUDAToolkit_VERSION VERSION_LESS 11.7)
    shimmy_missing("CUDA ${CUDAToolkit_VERSION} is too old, it takes 11.7 or later"
      OTHER "A newer one: https://developer.nvidia.com/cuda-downloads")
  endif()
endif()

if(GGML_OPENCL)
  find_package(OpenCL QUIET)
  if(NOT OpenCL_FOUND)
    shimmy_missing("GGML_OPENCL=ON needs the OpenCL headers and loader"
      APT opencl-headers ocl-icd-opencl-dev DNF opencl-headers ocl-icd-devel PACMAN opencl-headers ocl-icd
      ZYPPER opencl-headers ocl-icd-devel)
  endif()
endif()

if(GGML_HIP)
  find_program(SHIMMY_HIPCONFIG hipconfig HINTS "$ENV{ROCM_PATH}/bin" /opt/rocm/bin)
  if(NOT SHIMMY_HIPCONFIG)
    shimmy_missing("GGML_HIP=ON needs ROCm 6.1 or later, and there is no hipconfig"
      OTHER "Install it from https://rocm.docs.amd.com; one outside /opt/rocm is named by ROCM_PATH.")
  endif()
endif()

if(GGML_SYCL)
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag("-fsycl" SHIMMY_HAS_SYCL)
  if(NOT SHIMMY_HAS_SYCL)
    shimmy_missing("GGML_SYCL=ON needs a C++ compiler with SYCL, and ${CMAKE_CXX_COMPILER} has none"
      OTHER "Install Intel's oneAPI, source its setvars.sh, and build with CC=icx CXX=icpx.")
  endif()
endif()

if(GGML_BLAS AND NOT APPLE)
  set(BLA_VENDOR "${GGML_BLAS_VENDOR}")
  if(NOT BLA_VENDOR)
    set(BLA_VENDOR Generic)
  endif()
  find_package(BLAS QUIET)
  find_package(PkgConfig QUIET)
  if(NOT BLAS_FOUND OR NOT PKG_CONFIG_FOUND)
    shimmy_missing("GGML_BLAS=ON needs a BLAS library (${BLA_VENDOR}) and pkg-config"
      APT libopenblas-dev pkg-config DNF openblas-devel pkgconf PACMAN openblas pkgconf ZYPPER openblas-devel pkg-config
      OTHER "and say which one it is: -C cmake.define.GGML_BLAS_VENDOR=OpenBLAS")
  endif()
  unset(BLA_VENDOR)
endif()

if(GGML_METAL AND NOT APPLE)
  shimmy_missing("GGML_METAL=ON works on macOS only" OTHER "Elsewhere, GGML_VULKAN=ON runs on most GPUs.")
endif()
