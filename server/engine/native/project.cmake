# Read by every CMake project that cargo builds here (`CMAKE_PROJECT_INCLUDE` in .cargo/config.toml): llama.cpp alone.
# Cargo looks at no file in this folder: `cargo clean -p llama-cpp-sys-2` after a change has it built again.
if(PROJECT_NAME STREQUAL "ggml")
    add_compile_options("$<$<COMPILE_LANGUAGE:C>:SHELL:-include ${CMAKE_CURRENT_LIST_DIR}/one_row.h>")
    set(CEREBRUM_NATIVE ${CMAKE_CURRENT_LIST_DIR})
    # When ggml has named its sources.
    function(cerebrum_kernels)
        if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64" AND TARGET ggml-cpu)
            set(kernels ${CMAKE_CURRENT_SOURCE_DIR}/src/ggml-cpu/arch/x86)
            set_source_files_properties(${kernels}/quants.c TARGET_DIRECTORY ggml-cpu
                PROPERTIES COMPILE_OPTIONS "-include;${CEREBRUM_NATIVE}/read_ahead.h")
            set_source_files_properties(${kernels}/repack.cpp TARGET_DIRECTORY ggml-cpu
                PROPERTIES COMPILE_OPTIONS "-include;${CEREBRUM_NATIVE}/repacked.h")
        endif()
    endfunction()
    cmake_language(DEFER CALL cerebrum_kernels)
endif()
