"""What scripts of Balsam 0.x use, under its names: thin views on the real objects.

`BalsamJob`, `ApplicationDefinition` and `QueuedLaunch` hold a `Job`, `App` or `BatchJob` and give
its fields the names and types of 0.x. There is no second model, and no database is spoken to here.
"""
