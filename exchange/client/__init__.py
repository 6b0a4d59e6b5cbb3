"""The SDK that other systems import."""
