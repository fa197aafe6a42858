# Dependencies that CMake builds are optimised in every profile of Cargo (docs/decisions/0001-one-profile.md). libaom-sys
# asks for a Debug build, without optimisation, whenever Cargo's profile does not inherit from `release`.
set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
