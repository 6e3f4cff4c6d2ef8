# Read by every CMake project that cargo builds here (`CMAKE_PROJECT_INCLUDE` in .cargo/config.toml): llama.cpp alone.
if(PROJECT_NAME STREQUAL "ggml")
    add_compile_options("$<$<COMPILE_LANGUAGE:C>:SHELL:-include ${CMAKE_CURRENT_LIST_DIR}/one_row.h>")
endif()
