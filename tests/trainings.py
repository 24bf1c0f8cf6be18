"""Trainings with all settings in one call: each goes to the problem, the run, the monitor or the engine, by its name."""

import dataclasses

import robustctl as rc


def taken(settings, *kinds):
    """Take out of the settings what a class has a field for."""
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    return {name: settings.pop(name) for name in names & settings.keys()}


def monitored(settings):
    """Make the settings of a monitor one object."""
    monitor = taken(settings, rc.runs.Monitor)
    return settings | {"monitor": rc.runs.Monitor(**monitor)} if monitor else settings


def fit(model, record, **settings):
    problem = rc.train.Identification(record, **taken(settings, rc.train.Identification))
    return rc.train.train(problem, model, **{"epochs": 500} | monitored(settings))


def fit_policy(policy, scenario, **settings):
    problem = rc.train.PolicyGradient(scenario, **taken(settings, rc.train.PolicyGradient))
    return rc.train.train(problem, policy, **{"epochs": 100} | monitored(settings))


def fit_seeds(build, record, **settings):
    problem = rc.train.Identification(record, **taken(settings, rc.train.Identification))
    return rc.train.train_seeds(problem, build, **monitored(settings))
