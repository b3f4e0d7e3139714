"""The ledger: the one package that knows Redis.

What is here is durable when the method that put it there returns (with `appendfsync always`). Every change is one
atomic script that is safe to repeat, because the client library sends again by itself on a lost connection.

Keys, all of one lane under the hash tag of its account, so that the same code runs on a cluster (a script is given that
prefix as its key, and makes the others from it):

    bridge:home:<template>                 the account in whose slot the template's alerts live, kept for ever
    bridge:accounts                        every account that has had an order or an alert
    bridge:{A}:same:<template>:<key>       dedupe key of an alert, with the first alert's id        (expires)
    bridge:{A}:alert:<id>                  hash: an alert with its rendered orders
    bridge:{A}:alerts                      sorted set: alert ids by receipt (µs, see rank in lua/_lane.lua)
    bridge:{A}:halves                      sorted set: alerts whose orders are not all in their lanes yet, by receipt
    bridge:{A}:order:<id>                  hash: an order and its state
    bridge:{A}:history:<id>                list: [state, ms, reason] in order
    bridge:{A}:calls:<id>                  list: recorded calls and replies in order
    bridge:{A}:lane                        stream: ids of orders to be handled, oldest first
    bridge:{A}:exits                       sorted set: the cancels and closes among them
    bridge:{A}:lease                       hash: owner, fence, until
    bridge:{A}:clock                       hash: last, behind, rank (see lua/_lane.lua)
    bridge:{A}:orders                      sorted set: order ids by creation (µs, as above)
    bridge:{A}:open                        sorted set: orders that may still work at the broker, by when they end
    bridge:{A}:doubts                      sorted set: unknown orders
    bridge:{A}:waiting                     sorted set: orders that wait for a person
    bridge:{A}:ends                        sorted set: ended orders by their end
    bridge:{A}:lookups                     sorted set: accepted orders whose look-up is due
    bridge:{A}:marks                       sorted set: what cancels and closes cover, by their alert's receipt
    bridge:{A}:covered                     hash: unknown entry → the cancel or close that ended without knowing its end
    bridge:{A}:newest                      hash: contract → rank of the newest entry that was queued for it
    bridge:{A}:late:<order>                list: what a worker that had lost its lane heard of a write of its own
    bridge:{A}:shows                       whether the broker has shown us one of our own ids on this account
    bridge:{login:L}:token / hold / lock   a log-in's token (encrypted), wait, and owner
    bridge:{login:L}:ticket / logins       its log-in's penalty ticket (encrypted); sorted set: log-ins of the last hour
    bridge:{login:L}:budget[:claims]       hash: the request bucket; sorted set: exits that wait for a request
    bridge:{login:L}:ticket:<call>         the penalty ticket of an order's call, by its digest (encrypted)
    bridge:{login:L}:told:end / told:short a token's end, or an end that came too soon, was told within the hour
    bridge:{counter:C}                     a counter for a broker's integer ids
"""

from __future__ import annotations

from bridge.ledger.history import History
from bridge.ledger.intake import Intake
from bridge.ledger.keys import Lease, Stored, seen_fields
from bridge.ledger.logins import Logins

__all__ = ["Ledger", "Lease", "Stored", "seen_fields"]


class Ledger(Intake, Logins, History):
    """A thread-safe connection to the ledger; it connects on first use.

    Every method raises LedgerAway when Redis cannot be reached or cannot write: then nothing is certain but that asking
    again is safe. DamagedRecord says that what was read is not what was written.
    """
