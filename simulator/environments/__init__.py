"""Environments: problems in which what every arm would have earned is known, so that choices can be judged exactly."""
