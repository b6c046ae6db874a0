"""The engine: one loop that turns readings into recorded events and sends them (`engine`), what it is made of
(`interpretation`), and how a configuration and a world become one (`assembly`)."""
