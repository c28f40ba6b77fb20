"""The model_types that are encoders, which the server asks without reading any config."""

FAMILIES = {  # each with its module
    "bert": "bert",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "gte": "gte",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "nomic_bert": "nomic_bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}
CLASSIFIES = "ForSequenceClassification"
