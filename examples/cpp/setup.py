"""Build the extension: python setup.py build_ext --inplace."""

from setuptools import Extension, setup

setup(
    name="rms-norm-cpp",
    ext_modules=[
        Extension("rms_norm_cpp", ["rms_norm_cpp.cpp"], extra_compile_args=["-std=c++17"])
    ],
)
