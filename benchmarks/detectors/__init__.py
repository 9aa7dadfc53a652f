"""How the detectors in the package that know AI-generated faces were trained. It measures nothing."""
