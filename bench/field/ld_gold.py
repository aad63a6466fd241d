from .ld_bfd import linker

PROGRAM = linker("gold", "a linker of 300 objects closes some when it can't open another", "ld.gold")
