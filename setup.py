"""Installs configs/ as the package seg.configs, which pyproject.toml cannot express beside package discovery."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["seg", "seg.*"]), "seg.configs"], package_dir={"seg.configs": "configs"})
