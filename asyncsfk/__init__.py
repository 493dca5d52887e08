"""asyncio client for the Social Fetch API."""
