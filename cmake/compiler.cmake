# A C++17 compiler that llama.cpp compiles with, before CMake fails in its own words.
include(CheckLanguage)
foreach(language C CXX)
  check_language(${language})
  if(NOT CMAKE_${language}_COMPILER)
    if(APPLE)
      shimmy_missing("no C++ compiler was found" OTHER "Install it with:  xcode-select --install")
    endif()
    shimmy_missing("no C++ compiler was found"
      APT build-essential DNF gcc-c++ PACMAN base-devel ZYPPER gcc-c++
      OTHER "One in another place is named by the environment variables CC and CXX.")
  endif()
endforeach()
