"""Adapters: one module or folder per framework. Nothing outside this folder imports one."""
