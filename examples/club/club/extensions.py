"""What the application is made of, once for every application that the factory makes."""

from __future__ import annotations

from flask_login import LoginManager, current_user
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect

from carboy import Carboy

database = SQLAlchemy()
login = LoginManager()
login.login_view = "members.sign_in"
csrf = CSRFProtect()
carboy = Carboy(expose=["files", "api"], authenticate=lambda: current_user)

photos = carboy.space("photos", accept=["image/*"], max_size="5 MB")
papers = carboy.space("papers", accept=["application/pdf", "text/plain"], max_size="2 GB")
own = carboy.space("own", private=True)
"""Each member's own files, at /carboy/files/own/."""
