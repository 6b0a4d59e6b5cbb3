"""One agency's node of the referral exchange."""
