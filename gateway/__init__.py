"""The exchange gateway: systems of agencies ask for records and hand over documents, under signed agreements.

Read it in this order:

1. ``core/model``      the words: service, agency, system, endpoint, agreement, grant, catalogue
2. ``core/refusal``    every way to say no, in one table
3. ``core/policy``     may they? one function from facts to a decision
4. ``core/exchange``   what one exchange is: its head, its fingerprint, its outcomes
5. ``edge/exchange``   the flow: who, what, right, shape, call, check, cut, write down, answer
6. ``core/delivery``   the life of a document: a table;  ``edge/documents/taking`` in, ``road`` and ``tour`` out,
                       ``inbox`` and ``replies`` for who fetches, ``scribe`` what is written and receipted of each step
7. ``core/entry``      what the journal keeps, byte by byte;  ``edge/journal`` how it gets there
8. ``catalogue/``      what agencies declared, read into one snapshot;  ``catalogue/checks`` what can be wrong
9. ``protocols/``      how an agency's own system is spoken to
10. ``app``            the one place where the parts are put together, ``mailroom`` for documents, ``footing`` what a
                       process stands on;  ``workers`` several processes of it;  ``commands/`` what people type
11. ``core/cloudevent``  a document as a record of Kafka;  ``protocols/publishing`` how it gets onto a topic
12. ``agent/``         what runs at an agency: ``core/handling`` what it does with a record, as tables;
                       ``agent/handing`` one record to its end, ``member`` its place in the group, ``memory`` what it
                       knows, ``run`` all of it

``core`` decides (no IO, no clock, no async), ``catalogue`` reads what people declared, ``protocols`` speak
to agencies' systems, ``edge`` does, ``app`` composes. Imports run one way:
``core <- catalogue <- protocols <- edge <- footing <- mailroom <- app <- workers <- commands``;
``agent`` stands beside ``footing``, and only ``commands`` imports it; ``tests/architecture`` holds it. ``adapter`` and
``client`` are the public modules; ``client`` imports nothing else of the gateway.
"""

__version__ = "0.1.0"
