"""The tag of the wheel: that of a platform where scripts/wheel has put library and command into the package, else "any"."""

import os

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.dist import Distribution

NATIVE = os.path.isdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "src", "tideover", "native"))


class Package(Distribution):
    def has_ext_modules(self):
        return NATIVE


class Wheel(bdist_wheel):
    """The files are no extension modules: they are for every Python 3, and for the C libraries that scripts/wheel names."""

    def get_tag(self):
        return ("py3", "none", os.environ["TIDEOVER_WHEEL_PLATFORM"] if NATIVE else "any")


setup(distclass=Package, cmdclass={"bdist_wheel": Wheel})
