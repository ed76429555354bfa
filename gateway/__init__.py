"""The exchange gateway: one agency's system asks another's for a record, under a signed agreement.

Read it in this order:

1. ``core/model``      the words: service, agency, system, endpoint, agreement, grant, catalogue
2. ``core/refusal``    every way to say no, in one table
3. ``core/policy``     may they? one function from facts to a decision
4. ``core/exchange``   what one exchange is: its head, its fingerprint, its outcomes
5. ``edge/exchange``   the flow: who, what, right, shape, call, check, cut, write down, answer
6. ``core/entry``      what the journal keeps, byte by byte;  ``edge/journal`` how it gets there
7. ``catalogue/``      what agencies declared, read into one snapshot;  ``catalogue/checks`` what can be wrong
8. ``protocols/``      how an agency's own system is spoken to
9. ``app``             the one place where the parts are put together;  ``workers`` several processes of it;
                       ``commands/`` what people type

``core`` decides (no IO, no clock, no async), ``catalogue`` reads what people declared, ``protocols`` speak
to agencies' systems, ``edge`` does, ``app`` composes. Imports run one way:
``core <- catalogue <- protocols <- edge <- app <- workers <- commands``; ``tests/architecture`` holds it.
``adapter`` and ``client`` are the public modules; ``client`` imports nothing else of the gateway.
"""

__version__ = "0.1.0"
