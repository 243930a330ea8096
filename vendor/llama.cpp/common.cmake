# llama.cpp's `common` as a static library for the shim. Not add_subdirectory(common): it would be shared, it asks git about the
# folder around it, and half of its compile time is the argument parser, the downloader and an HTTP library.
file(GLOB common_sources CONFIGURE_DEPENDS "${tree}/common/*.cpp" "${tree}/common/jinja/*.cpp")
list(FILTER common_sources EXCLUDE REGEX "/(arg|console|debug|download|hf-cache|imatrix-loader|preset|subproc)\\.cpp$")

set(BUILD_COMPILER "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
set(BUILD_TARGET "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")
configure_file("${tree}/common/build-info.cpp.in" build-info.cpp)

find_package(Threads REQUIRED)
add_library(llama-common STATIC ${common_sources} "${CMAKE_CURRENT_BINARY_DIR}/build-info.cpp")
target_compile_features(llama-common PUBLIC cxx_std_17)
# src/ is for llama-ext.h; the root, for "common/chat.h" written in full
target_include_directories(llama-common PUBLIC "${tree}/common" "${tree}/vendor" "${tree}/src" "${tree}")
target_link_libraries(llama-common PUBLIC llama ggml Threads::Threads)
