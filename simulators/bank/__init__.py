"""A bank: it keeps the shop's account and its customers', and speaks ISO 20022 with the shop, document by document."""
