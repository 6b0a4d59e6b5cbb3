"""What a referral is: content, states, safe-contact plan, clocks. Pure."""
