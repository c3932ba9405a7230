"""What the providers of notification speak, as pure functions: nothing here opens a connection or knows a setting."""
