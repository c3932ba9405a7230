"""The companies the shop depends on, as local processes: a card processor, a parcel carrier, a mailbox.

Each speaks a real protocol, fails on demand, and keeps a ledger in a file of its own. The platform under test
reaches them only over the network, so an audit can compare what the shop believes with what they did.
"""
