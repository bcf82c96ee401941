"""The pages of reproduced tables: ``page`` puts together what the other modules write."""
