include(missing)
include(compiler-version)
