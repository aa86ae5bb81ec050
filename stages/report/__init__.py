"""The report: one page of HTML for people, from what recipes have left in exp/. No stage."""
