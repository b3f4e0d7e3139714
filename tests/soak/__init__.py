"""The soak: a whole Bridge in real processes is killed at random while alerts come in, and then held to its promises.

    plan ─▶ sender ─▶ receiver … worker ─▶ gateway ─▶ sandbox        chaos kills, stops and breaks what lies between
      └────────▶ judge ◀── what the ledger says, what the sandbox saw
"""
