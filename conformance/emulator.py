def install_on_import(): pass
def launches(): return 0
def forbid(r): pass
