"""What crosses a process boundary: ids, money, addresses, commands, replies, events, error codes.

Everything here is a frozen pydantic model or a pure function. It imports nothing of the platform, so that any process, workflow
or tool can share it. A new field always has a default: recorded histories and stored events must still decode.
"""
