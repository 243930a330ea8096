# std::filesystem without a library of its own, and the intrinsics that ggml uses
set(minimum_GNU 9)
set(minimum_Clang 10)
set(minimum_AppleClang 12)
set(minimum ${minimum_${CMAKE_CXX_COMPILER_ID}})
if(minimum AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS minimum)
  shimmy_missing("${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} is too old, it takes ${minimum} or later"
    APT g++ DNF gcc-c++ PACMAN gcc ZYPPER gcc-c++
    OTHER "A newer one in another place is named by the environment variables CC and CXX.")
endif()
