"""Images that anybody may have sent: opened within limits, looked at, made small."""
