"""A sweep, its root and its store as one object: everything the command line does, from a script or a notebook.

    from scaling import Project

    project = Project.open("sweeps/quickstart.yaml")
    plan = project.plan()            # the grid and its price; nothing is run
    done = project.launch()          # plan, price, train, collect, fit, report; safe to repeat at any moment
    study = project.study()          # laws, intervals, comparisons

`project` has the class, `opened` what it knows of its files, `launching` the way from a file to workers (`preparing`
and `following` are stretches of it), `reporting` the way from results to laws. Nothing is printed: a `Listener` hears
what happens on the way. What a user can get wrong raises a `ScalingError`.
"""

from scaling.project.listener import Listener
from scaling.project.project import Project

__all__ = ["Listener", "Project"]
