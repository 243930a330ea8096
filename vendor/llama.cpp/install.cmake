# The shared libraries go to shimmy/llama/lib. GGML_AVAILABLE_BACKENDS is ggml's own list of what it built; it is cached, so a
# backend that was switched off since is still in it.
set(libraries mtmd llama ggml ggml-base)
foreach(backend IN LISTS GGML_AVAILABLE_BACKENDS)
  if(TARGET ${backend})
    list(APPEND libraries ${backend})
  endif()
endforeach()

# A wheel cannot hold symbolic links: libllama.so, .so.0 and .so.0.2.0 would be three copies that can be loaded side by side.
foreach(library IN LISTS libraries)
  set_property(TARGET ${library} PROPERTY VERSION)
  set_property(TARGET ${library} PROPERTY SOVERSION)
  set_property(TARGET ${library} PROPERTY PUBLIC_HEADER) # not installed here, and CMake warns of it
endforeach()
install(TARGETS ${libraries} LIBRARY DESTINATION shimmy/llama/lib COMPONENT shimmy)

if(SHIMMY_CPU_NATIVE)
  target_compile_options(ggml-cpu PRIVATE -march=native -DSHIMMY_CPU_ID=${SHIMMY_CPU_ID})
endif()

# MIT asks for the notice in every copy; the text is llama.cpp's own, taken from the tree that was built
file(GLOB licenses "${tree}/licenses/*")
install(FILES "${tree}/LICENSE" ${licenses} DESTINATION shimmy/llama/lib/licenses COMPONENT shimmy)
